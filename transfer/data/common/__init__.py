"""The annotated images themselves: records, faults and the rules for them, checked values and masks."""
