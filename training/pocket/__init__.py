"""Training of the pocket models: data, image, video, audio, captions, judge."""
