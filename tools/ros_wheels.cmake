# Only for ROS 2 from pip wheels: -DCMAKE_PROJECT_INCLUDE=<absolute path of this file>.
# It mends include folders that make CMake refuse to generate, once CMakeLists.txt has been read.
function(_mend_include_dirs)
  # The wheels' targets name the Python that they were built with (/opt/python/cp311-cp311/...),
  # which does not exist here.
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(dirs ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(dirs)
      foreach(dir IN LISTS dirs)
        if(dir MATCHES "^/opt/python/" AND NOT EXISTS "${dir}")
          list(REMOVE_ITEM dirs "${dir}")
        endif()
      endforeach()
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${dirs}")
    endif()
  endforeach()

  # Our own targets name numpy's folder, which is below the sources if the virtual environment is,
  # and may then be used in the build only.
  get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(dirs ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(dirs)
      list(TRANSFORM dirs REPLACE "^/.*/site-packages/.*$" "$<BUILD_INTERFACE:\\0>")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${dirs}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL _mend_include_dirs)
