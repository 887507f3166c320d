"""What stands between the network and the MONAI Label server: request ids, token, hosts and origins, sizes. It knows nothing of hearts."""
