#pragma once

#include <span>
#include <string>

namespace tools {

// The router report's page (tools/inspector), put together when the program was built.
std::span<const char* const> inspector_pieces();

// The page with `json` in the place of @DATA@. Nothing in it can end the element that holds it:
// every "<" becomes <, which JSON reads as the same character.
std::string report_page(const std::string& json);

}  // namespace tools
