#include "train/file_io.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/train/temp_folder.h"

using engine::ErrorKind;
using namespace train;
using namespace train::test;

TEST_CASE("file_io: an atomic file appears whole, with its sum") {
  const TempFolder folder;
  const std::string path = folder / "a.bin";
  put(path, "old");
  AtomicFile file(path);
  file.write("123456");
  CHECK(content_of(path) == "old");
  file.write("789");
  const FileSum sum = file.commit();
  CHECK(content_of(path) == "123456789");
  CHECK(sum.bytes == 9);
  CHECK(sum.crc32 == 0xCBF43926u);  // the published check value of CRC-32
  CHECK(sum_file(path) == sum);
  CHECK(read_file(path) == "123456789");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"a.bin"});
}

TEST_CASE("file_io: without commit nothing remains") {
  const TempFolder folder;
  {
    AtomicFile file(folder / "a.bin");
    file.write("half");
    CHECK(names_in(folder.path()).size() == 1);
  }
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("file_io: sums of more than one block, and of nothing") {
  const TempFolder folder;
  std::string big(3 * 1024 * 1024 + 17, 'x');
  for (size_t i = 0; i < big.size(); i += 1000) big[i] = static_cast<char>('a' + i % 26);
  const FileSum sum = write_file(folder / "big", big);
  CHECK(sum_file(folder / "big") == sum);
  big[2'000'000] ^= 1;
  put(folder / "big", big);
  CHECK(sum_file(folder / "big") != sum);
  CHECK(write_file(folder / "none", "") == FileSum{0, 0});
  CHECK(sum_file(folder / "none") == FileSum{0, 0});
}

TEST_CASE("file_io: a write that fails leaves the old file and no other") {
  const TempFolder folder;
  const std::string path = folder / "a.bin";
  put(path, "old");
  for (const rlim_t limit : {0, 1, 100, 4096}) {
    const FileSizeLimit full(limit);
    const std::string message =
        error_of(ErrorKind::kIo, [&] { write_file(path, std::string(5000, 'n')); });
    CHECK(message == path +
                         ": cannot write: File too large; raise the limit on file sizes "
                         "(ulimit -f), or choose another folder");
  }
  CHECK(content_of(path) == "old");
  CHECK(names_in(folder.path()).size() == 1);
}

TEST_CASE("file_io: the disk's refusals are one line with advice") {
  const TempFolder folder;
  put(folder / "file", "x");
  const auto message = [](const std::string& path) {
    return error_of(ErrorKind::kIo, [&] { write_file(path, "x"); });
  };
  CHECK(message(folder / "file/inside") ==
        folder /
            "file/inside: cannot write: Not a directory; a part of the path is a file, "
            "choose another folder");
  CHECK(contains(message(folder / "none/inside"), "No such file or directory; check the path"));
  CHECK(contains(error_of(ErrorKind::kIo, [&] { make_folders(folder / "file"); }), "a file"));
  CHECK(contains(error_of(ErrorKind::kIo, [&] { make_folders(folder / "file/a/b"); }),
                 "cannot make this folder: Not a directory"));
  CHECK(error_of(ErrorKind::kIo, [] { make_folders("/proc/robustmoe"); }) != "no error");
  const std::string full = error_of(ErrorKind::kIo, [] { fail_io("p", "write", ENOSPC); });
  CHECK(full ==
        "p: cannot write: No space left on device; free some space, or choose a folder "
        "on another disk");
}

TEST_CASE("file_io: reading refuses what is no file, too large or too short") {
  const TempFolder folder;
  put(folder / "ten", "0123456789");
  CHECK(contains(error_of(ErrorKind::kIo, [&] { ReadFile(folder / "none"); }), "No such file"));
  CHECK(contains(error_of(ErrorKind::kIo, [&] { ReadFile(folder.path()); }), "Is a directory"));
  ::mkfifo((folder / "pipe").c_str(), 0600);
  CHECK(contains(error_of(ErrorKind::kIo, [&] { ReadFile(folder / "pipe"); }), "not a regular"));
  CHECK(contains(error_of(ErrorKind::kFormat, [&] { read_file(folder / "ten", 9); }), "10 bytes"));
  const ReadFile ten(folder / "ten");
  char bytes[8] = {};
  ten.read(7, bytes, 3);
  CHECK(std::string(bytes) == "789");
  CHECK(contains(error_of(ErrorKind::kFormat, [&] { ten.read(7, bytes, 4); }),
                 "byte 10: the file ends here, 1 bytes too early"));
}

TEST_CASE("file_io: folders are replaced and removed as a whole") {
  const TempFolder folder;
  const std::string old = folder / "step", next = folder / ".writing-step";
  make_folders(old);
  make_folders(next);
  put(old + "/only_old", "1");
  put(next + "/content", "2");
  replace_folder(next, old);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step"});
  CHECK(names_in(old) == std::vector<std::string>{"content"});
  make_folders(next);
  replace_folder(next, folder / "other");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"other", "step"});
  remove_folder(old + "/");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"other"});
}

TEST_CASE("file_io: leftovers are found by their name alone") {
  const TempFolder folder;
  put(folder / "writing-x", "keep");
  put(unfinished_path(folder / "a.bin"), "drop");
  make_folders(unfinished_path(folder / "step/"));
  put(unfinished_path(folder / "step") + "/model", "drop");
  put(folder / ".writing-my-thesis", "keep");
  put(folder / ".writing-a.bin-", "keep");
  put(folder / ".writing-other-12", "keep");
  constexpr std::string_view kNames[] = {"a.bin", "step"};
  CHECK(remove_unfinished(folder.path(), kNames) == 2);
  CHECK(names_in(folder.path()) == std::vector<std::string>{".writing-a.bin-", ".writing-my-thesis",
                                                            ".writing-other-12", "writing-x"});
  CHECK(remove_unfinished(folder / "none", kNames) == 0);
}

TEST_CASE("file_io: a growing file is cut to what is known of it, and goes on there") {
  const TempFolder folder;
  const std::string path = folder / "a.bin";
  FileSum sum;
  {
    GrowingFile file(path, {});
    file.write("1234", 4);
    file.write("56", 2);
    sum = file.flush();
    CHECK(sum == sum_file(path));
    file.write("half", 4);
  }
  CHECK(content_of(path) == "123456half");
  {
    GrowingFile file(path, sum);
    CHECK(content_of(path) == "123456");
    file.write("789", 3);
    sum = file.flush();
  }
  CHECK(content_of(path) == "123456789");
  CHECK(sum == FileSum{9, 0xCBF43926u});
  CHECK(sum_text(sum) == "9 bytes, crc32 cbf43926");
  put(path, "12345678");
  CHECK(error_of(ErrorKind::kFormat, [&] { GrowingFile(path, sum); }) ==
        path + ": 8 bytes, where 9 were written");
  CHECK(contains(error_of(ErrorKind::kIo, [&] { GrowingFile(folder.path(), {}); }),
                 "cannot write: Is a directory"));
  CHECK(contains(error_of(ErrorKind::kIo, [&] { GrowingFile(folder / "no/file", {}); }),
                 "cannot write"));
}
