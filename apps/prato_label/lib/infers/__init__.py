"""Inference: a MONAI Label request in, a mask file and the contract's reply out."""

from lib.infers.prato_infer import PratoInfer

__all__ = ["PratoInfer"]
