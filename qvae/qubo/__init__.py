"""Networks with few-bit weights, trained as polynomials of bits by samplers, by QAOA, or by trying all."""
