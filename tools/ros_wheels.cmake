# Only for ROS 2 from pip wheels: -DCMAKE_PROJECT_INCLUDE=<absolute path of this file>.
# After CMakeLists.txt was read, it corrects include folders that make CMake fail to generate.
function(_mend_include_dirs)
  # The targets of the wheels use the Python that built them (/opt/python/cp311-cp311/...). It does
  # not exist here.
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

  # Our own targets use numpy's folder. If the virtual environment is inside the source folder, then
  # numpy's folder is too, and CMake allows such a folder only for the build.
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
