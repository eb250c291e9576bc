"""Which networks of torchvision and timm are imported, and how far their numbers are torch's."""
