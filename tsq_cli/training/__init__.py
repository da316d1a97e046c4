"""From lists of labelled videos to a pack: cached features, prototypes, TSQ layers, networks fine-tuned."""
