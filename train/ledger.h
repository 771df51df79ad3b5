#pragma once

#include <span>
#include <string>
#include <string_view>

#include "train/config_fields.h"

// The settings of PRC for V-MoE on which the paper, its published code and our defaults differ.
namespace train {

struct LedgerRow {
  std::string_view key;          // "prc.form"
  std::string_view paper, code;  // values as in TOML; empty: not said
  std::string_view note;         // where each says so
};

std::span<const LedgerRow> ledger();

// Which of the two a field's value is: "paper: 0.0005; code: 0.00075; here as the code". Empty
// for a key that is not in the ledger.
std::string ledger_note(const Field& field);

// All rows with our default, as a table in Markdown.
std::string ledger_table();

}  // namespace train
