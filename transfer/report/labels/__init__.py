"""The label-efficiency curve: AP over the number of labelled images, and how many labels a start saves."""
