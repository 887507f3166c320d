"""What the tests of the Slicer module need of 3D Slicer: its real MRML core, without the desktop round it."""
