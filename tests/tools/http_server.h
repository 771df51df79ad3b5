#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tools::test {

struct Served {
  std::string body;
  size_t cut = std::string::npos;  // stops after so many bytes of an answer
  bool ranges = true;              // whether it can begin in the middle
};

// Gives files to who asks 127.0.0.1 for them, one at a time, and notes what was asked.
class HttpServer {
 public:
  HttpServer() : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    REQUIRE(::listen(listener_, 8) == 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~HttpServer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }
  void put(const std::string& name, const Served& file) {
    const std::lock_guard<std::mutex> lock(mutex_);
    files_[name] = file;
  }
  void hold() { held_.lock(); }
  void go_on() { held_.unlock(); }
  // "NAME from N", one for each request since the last call.
  std::vector<std::string> asked() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(asked_, {});
  }

 private:
  void serve() {
    for (int client; (client = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(client)) {
      std::string request;
      char buffer[4096];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const ssize_t got = ::recv(client, buffer, sizeof buffer, 0);
        if (got <= 0) break;
        request.append(buffer, static_cast<size_t>(got));
      }
      const std::lock_guard<std::mutex> turn(held_);
      const std::string text = answer(request);
      for (size_t at = 0; at < text.size();) {
        const ssize_t sent = ::send(client, text.data() + at, text.size() - at, MSG_NOSIGNAL);
        if (sent <= 0) break;
        at += static_cast<size_t>(sent);
      }
    }
  }

  std::string answer(const std::string& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t slash = request.find('/');
    const std::string name = request.substr(slash + 1, request.find(' ', slash) - slash - 1);
    const size_t range = request.find("Range: bytes=");
    const size_t from =
        range == std::string::npos ? 0 : std::strtoul(request.c_str() + range + 13, nullptr, 10);
    asked_.push_back(name + " from " + std::to_string(from));
    const auto found = files_.find(name);
    if (found == files_.end()) return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    const Served& file = found->second;
    const size_t first = file.ranges ? from : 0;
    if (first > 0 && first >= file.body.size()) {
      return "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n";
    }
    const std::string size = std::to_string(file.body.size()), rest = file.body.substr(first);
    std::string head = "HTTP/1.1 200 OK\r\n";
    if (first > 0) {
      head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " + std::to_string(first) + "-" +
             std::to_string(file.body.size() - 1) + "/" + size + "\r\n";
    }
    return head + "Connection: close\r\nContent-Length: " + std::to_string(rest.size()) +
           "\r\n\r\n" + rest.substr(0, file.cut);
  }

  int listener_;
  int port_ = 0;
  std::mutex mutex_, held_;
  std::map<std::string, Served> files_;
  std::vector<std::string> asked_;
  std::thread thread_;
};

}  // namespace tools::test
