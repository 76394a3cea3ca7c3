"""MoCo and the methods it is compared with, and what they are made of."""
