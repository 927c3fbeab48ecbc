/* EXPECT for the programs in C: what is not so ends them, with its line and the last error. */
#ifndef PENSTOCK_TESTS_ABI_EXPECT_H_
#define PENSTOCK_TESTS_ABI_EXPECT_H_

#include <stdio.h>
#include <stdlib.h>

#include "stack/penstock.h"

#define EXPECT(what)                                                         \
  do {                                                                       \
    if (!(what)) {                                                           \
      fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #what, \
              penstock_last_error());                                        \
      exit(1);                                                               \
    }                                                                        \
  } while (0)

#endif  // PENSTOCK_TESTS_ABI_EXPECT_H_
