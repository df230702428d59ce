"""Whether what the laws of `rlsched.laws` say holds on small runs."""
