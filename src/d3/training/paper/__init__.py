"""The recipe `paper`: a head trained on a frozen encoder, as Yang et al. (CVPR 2025) do it."""
