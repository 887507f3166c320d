"""The server: requests, their replies, and the thread that waits for them; knows neither MRML nor Qt."""
