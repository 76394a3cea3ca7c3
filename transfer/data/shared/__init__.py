"""Records that the processes of one machine share."""
