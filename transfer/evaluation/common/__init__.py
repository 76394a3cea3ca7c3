"""The evaluation of every kind of data: matches, precision and recall, resampling, kinds of mistake."""
