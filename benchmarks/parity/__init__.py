"""Are the numbers right: runs and methods held against torch and Captum; rows of differences."""
