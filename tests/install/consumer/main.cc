// Runs the embedder that it was linked with.
#include <cstdio>

#include "embedder.h"

int main() {
  const char* fault = RunEmbedder();
  if (*fault == '\0') return 0;
  std::fprintf(stderr, "consumer: %s\n", fault);
  return 1;
}
