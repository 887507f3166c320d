"""Images and labels in files, as they are read, checked and written: volumes, cines, what labels mean, and folders of studies."""
