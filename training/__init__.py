"""Host 2: diffusers, peft and accelerate. Data, training, sampling and the command line."""
