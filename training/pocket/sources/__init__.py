"""Where the pocket data come from: npm packages of pictures, animations and words; sound fonts and voices."""
