// SPDX-License-Identifier: GPL-2.0-only

#include "model_file.h"

#include "sha256.h"

#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace geojax {

namespace {

constexpr int FORMAT = 1;
const char *const TEXT = "geojax.txt";

[[noreturn]] void refuse(const std::string &message)
{
  throw std::runtime_error(message);
}

std::string content(const std::string &path)
{
  std::ifstream file(path, std::ios::binary);
  if (!file)
    refuse("a converted model is a folder with " + std::string(TEXT) + "; " + path +
           " cannot be read; convert the model again");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

[[noreturn]] void damaged(const std::string &path, const std::string &found)
{
  refuse(path + " is damaged: " + found + "; convert the model again");
}

// The text without its last line, which is the digest of all before it.
std::string checked_text(const std::string &path)
{
  const std::string text = content(path), mark = "sha256 ";
  const size_t last = text.rfind("\n" + mark);
  if (last == std::string::npos) damaged(path, "its own SHA-256 is missing");
  const std::string body = text.substr(0, last + 1);
  if (text.substr(last + 1) != mark + sha256(body) + "\n")
    damaged(path, "its SHA-256 is not the one in its last line");
  return body;
}

void check_file(const std::string &folder, const std::string &name, size_t size,
                const std::string &digest)
{
  const std::string path = folder + "/" + name, bytes = content(path);
  if (bytes.size() != size || sha256(bytes) != digest)
    damaged(path, "its SHA-256 is not the one in " + std::string(TEXT));
}

}    // namespace

ModelFile read_model(const std::string &folder)
{
  const std::string path = folder + "/" + TEXT;
  ModelFile model;
  model.folder = folder;
  std::istringstream lines(checked_text(path));
  int format = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key, first, second;
    words >> key;
    if (key == "format") {
      words >> format;
      if (format != FORMAT)
        refuse("this pair style reads format " + std::to_string(FORMAT) + "; " + path +
               " has format " + std::to_string(format) + "; take both from one geojax");
    } else if (key == "name") {
      std::getline(words >> std::ws, model.name);
    } else if (key == "dtype") {
      words >> model.dtype;
    } else if (key == "cutoff") {
      words >> model.cutoff;
    } else if (key == "hops") {
      words >> model.hops;
    } else if (key == "element") {
      Element element{};
      words >> first >> element.number >> element.reference;
      model.elements[first] = element;
    } else if (key == "tensor") {
      words >> first >> second;
      model.tensors[first] = second;
    } else if (key == "file") {
      size_t size = 0;
      words >> size >> second;
      std::getline(words >> std::ws, first);
      if (!words.fail()) check_file(folder, first, size, second);
    } else {
      damaged(path, "a line begins with '" + key + "'");
    }
    if (words.fail()) damaged(path, "the line '" + line + "' is not whole");
  }
  const bool known = model.dtype == "float32" || model.dtype == "float64";
  if (!known) refuse("numbers are float32 or float64; " + path + " says '" + model.dtype + "'");
  if (!(model.cutoff > 0.0) || model.hops < 1 || model.elements.empty() || !format)
    damaged(path, "its cutoff, hops, elements or format are missing");
  return model;
}

}    // namespace geojax
