# libjpeg-turbo: decodes JPEG several times faster than stb_image. Optional: without it stb decodes
# JPEG too. With it the target third_party::jpeg exists and carries ROBUSTMOE_HAS_JPEG=1.
option(ROBUSTMOE_LIBJPEG "decode JPEG with libjpeg-turbo where it is found" ON)
find_package(JPEG QUIET)
if(NOT ROBUSTMOE_LIBJPEG)
  message(STATUS "JPEG is decoded by stb_image, as ROBUSTMOE_LIBJPEG is off")
elseif(TARGET JPEG::JPEG)
  add_library(third_party::jpeg INTERFACE IMPORTED GLOBAL)
  target_include_directories(third_party::jpeg SYSTEM INTERFACE ${JPEG_INCLUDE_DIRS})
  target_link_libraries(third_party::jpeg INTERFACE JPEG::JPEG)
  target_compile_definitions(third_party::jpeg INTERFACE ROBUSTMOE_HAS_JPEG=1)
else()
  message(STATUS "libjpeg-turbo not found, JPEG is decoded by stb_image (slower): "
                 "install libjpeg-dev, or run tools/setup.sh")
endif()
