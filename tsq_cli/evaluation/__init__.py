"""What a pack is worth on labeled videos: frames chosen by every rule, recognized, scored and shown."""
