"""The evaluation of LVIS data: AP over what each image was verified for."""
