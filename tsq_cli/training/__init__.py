"""From lists of labeled videos to a pack: cached features, prototypes, TSQ layers, networks fine-tuned."""
