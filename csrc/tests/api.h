/* Tests of the public interface, binconv.h; the argument is not used. */
#ifndef BC_TESTS_API_H
#define BC_TESTS_API_H

#include "check.h"

void test_api(const subject *unused);

#endif
