"""What a segmented heartbeat says: volumes over time, end-diastole and end-systole, and the function of both ventricles."""
