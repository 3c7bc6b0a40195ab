"""Graphs on CKKS ciphertexts: compiler, keys, blobs, evaluation."""

from secureimg.ckks.compiler import compile  # noqa: A004  the field's word; callers write ckks.compile
from secureimg.ckks.costs import CostModel, measure_machine
from secureimg.ckks.evaluation_keys import EvaluationKeys
from secureimg.ckks.evaluator import Evaluator
from secureimg.ckks.measured import MeasuredCosts, OperationTimes
from secureimg.ckks.owner_keys import OwnerKeys
from secureimg.ckks.parameters import MAX_MODULUS_BITS, Parameters, PrimeBits
from secureimg.ckks.program import OwnerOp, Program, PublicProgram
from secureimg.ckks.report import CostReport, LayerCost
from secureimg.ckks.timing import measure_operations

__all__ = [
    "MAX_MODULUS_BITS",
    "CostModel",
    "CostReport",
    "EvaluationKeys",
    "Evaluator",
    "LayerCost",
    "MeasuredCosts",
    "OperationTimes",
    "OwnerKeys",
    "OwnerOp",
    "Parameters",
    "PrimeBits",
    "Program",
    "PublicProgram",
    "compile",
    "measure_machine",
    "measure_operations",
]
