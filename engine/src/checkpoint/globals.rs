// SPDX-License-Identifier: MIT OR Apache-2.0
//! The classes that a pickle may name. None of them is ever run.

use candle_core::DType;

/// What a class stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A dictionary.
    Dict,
    /// A list, tuple or set.
    List,
    /// An object that is nothing but its attributes.
    Namespace,
    /// A path of a file: its arguments are its parts.
    Path,
    /// A tensor over a storage: `(storage, offset, shape, strides, …)`.
    Tensor,
    /// A tensor with a flag: `(tensor, …)`.
    Parameter,
    /// A storage's type; `None` for a type that no weight has.
    Storage(Option<DType>),
    /// What protocols 0 and 1 make an object with: `(class, …)`.
    Rebuild,
    /// Something without meaning for weights: a device, a number type, a plain Python type.
    Other,
}

/// Module, name and meaning of every class that is read.
const CLASSES: &[(&str, &str, Class)] = &[
    ("collections", "OrderedDict", Class::Dict),
    ("collections", "defaultdict", Class::Other),
    ("builtins", "dict", Class::Dict),
    ("builtins", "list", Class::List),
    ("builtins", "tuple", Class::List),
    ("builtins", "set", Class::List),
    ("__builtin__", "dict", Class::Dict),
    ("__builtin__", "list", Class::List),
    ("__builtin__", "tuple", Class::List),
    ("__builtin__", "set", Class::List),
    ("copyreg", "_reconstructor", Class::Rebuild),
    ("copy_reg", "_reconstructor", Class::Rebuild),
    ("builtins", "object", Class::Other),
    ("__builtin__", "object", Class::Other),
    ("argparse", "Namespace", Class::Namespace),
    ("types", "SimpleNamespace", Class::Namespace),
    ("easydict", "EasyDict", Class::Namespace),
    ("pathlib", "PosixPath", Class::Path),
    ("pathlib", "PurePosixPath", Class::Path),
    ("pathlib", "WindowsPath", Class::Path),
    ("pathlib", "PureWindowsPath", Class::Path),
    ("pathlib._local", "PosixPath", Class::Path),
    ("pathlib._local", "WindowsPath", Class::Path),
    ("torch._utils", "_rebuild_tensor_v2", Class::Tensor),
    ("torch._utils", "_rebuild_tensor", Class::Tensor),
    ("torch._utils", "_rebuild_parameter", Class::Parameter),
    ("torch", "FloatStorage", Class::Storage(Some(DType::F32))),
    ("torch", "HalfStorage", Class::Storage(Some(DType::F16))),
    ("torch", "BFloat16Storage", Class::Storage(Some(DType::BF16))),
    ("torch", "DoubleStorage", Class::Storage(None)),
    ("torch", "LongStorage", Class::Storage(None)),
    ("torch", "IntStorage", Class::Storage(None)),
    ("torch", "ShortStorage", Class::Storage(None)),
    ("torch", "CharStorage", Class::Storage(None)),
    ("torch", "ByteStorage", Class::Storage(None)),
    ("torch", "BoolStorage", Class::Storage(None)),
    ("torch", "Size", Class::List),
    ("torch", "device", Class::Other),
    ("torch", "float32", Class::Other),
    ("torch", "float16", Class::Other),
    ("torch", "bfloat16", Class::Other),
];

/// The meaning of a class, if it is known.
pub fn find(module: &str, name: &str) -> Option<Class> {
    CLASSES.iter().find(|(m, n, _)| *m == module && *n == name).map(|(_, _, class)| *class)
}
