"""What a pack is worth on labelled videos: frames chosen by every rule, recognised, scored and shown."""
