"""What every backend does alike, without a framework: delays, noise, prompts, exported state, memory."""
