"""What requests are counted with, in bytes of memory, and the sizes that follow from it."""

from __future__ import annotations

# A message that is being received lies in gRPC's buffers, and then in our bytes.
MESSAGE_COPIES = 2
# Bytes of memory that a request's bytes become, each of them: messages, token ids and arrays.
REQUEST_BYTE_MEMORY = 12
# No limit on a request's bytes is lower: that of the health service's messages, among others.
LEAST_REQUEST_BYTES = 64 * 1024
# What is longer is parsed, and written, beside the event loop.
LARGE_BYTES = LEAST_REQUEST_BYTES
