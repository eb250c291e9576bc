"""How far a run scales: what its parts cost, a model of them, a simulation, and a long run."""
