"""DeformingThings4D: animated meshes, and renders of them."""
