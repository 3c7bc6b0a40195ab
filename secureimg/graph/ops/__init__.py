"""The ops an image computation is made of. All shapes are per image, without the batch axis."""

from secureimg.graph.ops.base import MAX_ELEMENTS, FloatArray, Op, Shape, elements
from secureimg.graph.ops.functions import USUAL_ERROR, Abs, Divide, Exp, InverseSqrt, Reciprocal, Sqrt
from secureimg.graph.ops.fused import LinearMap
from secureimg.graph.ops.pointwise import (
    Add,
    Affine,
    ArgMax,
    Clip,
    Dense,
    LeakyRelu,
    Multiply,
    Polynomial,
    Relu,
    Sigmoid,
    Softmax,
    Square,
    Step,
    Subtract,
    Tanh,
)
from secureimg.graph.ops.shaping import Concat, Mean, Pad, Reshape, Slice, Transpose
from secureimg.graph.ops.windows import AveragePool, Conv, MaxPool

__all__ = [
    "MAX_ELEMENTS",
    "USUAL_ERROR",
    "Abs",
    "Add",
    "Affine",
    "ArgMax",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Dense",
    "Divide",
    "Exp",
    "FloatArray",
    "InverseSqrt",
    "LeakyRelu",
    "LinearMap",
    "MaxPool",
    "Mean",
    "Multiply",
    "Op",
    "Pad",
    "Polynomial",
    "Reciprocal",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Sqrt",
    "Square",
    "Step",
    "Subtract",
    "Tanh",
    "Transpose",
    "elements",
]
