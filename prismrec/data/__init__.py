"""Data: the Dataset record, external ids, readers, preparation, splits and planted catalogues."""
