"""What the values of a label file mean: structures by name, on the grid of the image, as a heart can lie."""
