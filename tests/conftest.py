"""What every test shares."""

import torch

# two test processes, or a server beside a test, on two cores: more threads than cores wait for each other
torch.set_num_threads(1)
