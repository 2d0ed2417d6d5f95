"""What a client can make expensive: requests of every shape beside a plain one of their size."""
