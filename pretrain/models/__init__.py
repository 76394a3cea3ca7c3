"""The pretraining methods: MoCo, those it is compared with, and what they are made of."""
