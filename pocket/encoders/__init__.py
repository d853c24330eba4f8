"""The pocket encoders: small networks that look at pictures and clips and listen to sounds."""
