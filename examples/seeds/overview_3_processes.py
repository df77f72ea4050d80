# 002_b648347f3a2097f7.txt, cell 3
import multiprocessing

def print_number(number):
    print(f"Process {number}: Printing number {number}")

if __name__ == "__main__":
    processes = []
    for i in range(4):
        process = multiprocessing.Process(target=print_number, args=(i,))
        processes.append(process)
        process.start()

    for process in processes:
        process.join()
