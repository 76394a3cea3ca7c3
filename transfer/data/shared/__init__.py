"""Records that the processes of one machine share, and the workers that load their images."""
