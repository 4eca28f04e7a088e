"""The guard's pure core: numbers in, verdict out. Standard library and NumPy only."""
