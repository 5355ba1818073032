"""Energy, forces and stress of crystals by rotation-equivariant message passing."""
