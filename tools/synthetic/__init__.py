"""The made-up scenes of the demo and the tests."""
