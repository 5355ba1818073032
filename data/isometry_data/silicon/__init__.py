"""Silicon by density functional theory: small cells with energies, forces and stresses, made by `compute.py`."""
