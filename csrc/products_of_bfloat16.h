// Where the instruction set has products of bfloat16, tensors of it are multiplied as they are; elsewhere they become float32 first.
#pragma once

#ifdef __AVX512BF16__
#include "bfloat16_products.h"

namespace lsm2::INSTRUCTION_SET {
using ProductsOfBFloat16 = BFloat16Products;
}
#else
#include "float_products.h"

namespace lsm2::INSTRUCTION_SET {
using ProductsOfBFloat16 = FloatProducts;
}
#endif
