"""From lists of labeled videos to a pack: prototypes, TSQ layers, and fine-tuned networks."""
