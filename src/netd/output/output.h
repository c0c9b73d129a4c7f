/* SPDX-License-Identifier: MIT */
/* Where entries go, and in which encoding. */
#pragma once

enum output {
    OUTPUT_AUTO, /* decided at the start: the journal where its socket exists, else text */
    OUTPUT_JOURNAL,
    OUTPUT_TEXT,
    OUTPUT_EXPORT,
};
